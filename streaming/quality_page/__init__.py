"""The quality page: one HTML file that says whether the books balance, and what needs a person.

`read.py` reads the tables, `model.py` decides what is shown, `draw.py` and `render.py` how it looks.
"""
