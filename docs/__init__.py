"""Scripts that write what docs/ shows of the code. They import inject and nothing imports them."""
