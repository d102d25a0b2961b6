"""The nouns, frozen: what a scenario says, what a kernel offers, what a trial shows. Imports errors only."""
