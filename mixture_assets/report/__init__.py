"""What was found, for people: figures and one page, pulled from the database.

Put code here when it turns rows into tables, sentences or pictures. Keep out anything that
decides: a number on the page is either in the database or computed by the function that the
pipeline uses for it.
"""
