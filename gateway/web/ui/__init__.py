"""The pages of an operator: what is used, by whom, what is denied, and the few things to change."""
