"""The embedded stack: starts and stops the real Kafka, S3 server and REST catalog on loopback. May import `config`."""
