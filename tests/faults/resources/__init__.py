"""Resources that run out under load: connections of the pool, threads, descriptors, the disk."""
