"""gdb on a guest, and the stop at an injection. Imports the machine that it debugs."""
