"""Commands that judge models and trace their origin."""
