"""The embedded stack: the real Kafka, S3 server and REST catalog on the loopback. May import `config`."""
