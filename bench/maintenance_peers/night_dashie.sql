CALL dashie.run_job('maintain_partitions');
