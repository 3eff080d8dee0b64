"""The reading room: a page on 127.0.0.1 to look at results, and to say what is right. Extra `review`.

table.py        its rows as columns in memory
worklist.py     filters, orders and counts them
journal.py      what a reader says, on the disk before it is confirmed
pictures.py     from a row to its picture as stored
heat.py         where the model looked, in a picture and in words
veil.py         what of a row the page may know
asked.py        what is asked of a room
room.py         all of these together, for one reader
guard.py        who may ask: one host, one origin, one browser
app.py          the addresses of the page
serving.py      the server
static/         the page itself
"""
