"""The HTTP gateway: signed requests in, events on Kafka, an answer after its acknowledgement.

Belongs here: what is asked of a request, and what it is answered. Does not: the contract (`quality/`),
partners (`streaming/partners/`), settings (`cli/`).
"""
