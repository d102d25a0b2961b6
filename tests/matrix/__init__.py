"""The library on several kernels, and the page that says what passes, fails or is not run on which."""
