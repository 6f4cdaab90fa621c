"""The data check: findings about coverage, consistency and label errors."""
