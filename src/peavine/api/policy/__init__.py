"""The policy group: disruption budgets and evictions."""
