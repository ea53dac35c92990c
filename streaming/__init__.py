"""From the outside into tables: generator, producers, raw job, curated job. May import lakehouse, quality."""
