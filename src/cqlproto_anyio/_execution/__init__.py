"""One call of a user: from the statement to its rows, along the query plan, within its deadline."""
