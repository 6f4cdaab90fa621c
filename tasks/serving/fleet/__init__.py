"""Fleet replicas, including replicas on PAI-EAS."""
