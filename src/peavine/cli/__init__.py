"""`peavine kubectl`: upstream kubectl's commands, flags, output and exit codes, on our own client.
What belongs here talks to a person or a script; what any client needs belongs in `peavine.client`.
"""
