"""What can be cut out of the models of each family, and which of their layers can be stored as integers."""
