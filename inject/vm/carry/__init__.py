"""Files that travel from the checkout to a guest, and from one guest to the next. Imports errors, store, engine."""
