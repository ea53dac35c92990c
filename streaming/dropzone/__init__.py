"""The dropzone: files that partners leave for us, from the landing folder to Kafka, each row once.

Belongs here: all that happens to a file. Does not: profiles of rows (`streaming/partners/`), the command.
"""
