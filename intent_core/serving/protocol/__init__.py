"""HTTP as the model server speaks it: routes, bodies, errors."""
