"""`inject watch`: the live table. Imports engine, report and the rest of cli."""
