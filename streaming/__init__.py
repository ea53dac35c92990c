"""From the outside into tables: producers, generator, raw job, curated job. May import `lakehouse`, `quality`."""
