"""The page on 127.0.0.1 where a reader looks at results and reviews them. Extra `review`.

scores_table.py    the rows of a scores file, as columns in memory
worklist.py        filters, sorts and counts these rows
journal.py         a reader's decisions, on the disk before they are confirmed
pictures.py        a row's picture, with its pixels as stored
heat_map.py        where the model looked, as a map and in words
blinding.py        what the page may show of a row
options.py         the options, and the decisions that the page sends
reading_room.py    all of these together, for one reader
request_guard.py   refuses requests from other pages and programs
app.py             the routes
serving.py         the server
static/            the page itself
"""
