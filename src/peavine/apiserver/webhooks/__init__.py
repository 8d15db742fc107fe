"""Admission webhooks: asking servers of the users about writes, and doing what they say.

`client` speaks to one, `matching` says which are asked, `review` is what they are asked and answer; `mutating` and
`validating` are the two admission plugins.
"""
