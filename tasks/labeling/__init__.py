"""Labelling: iTAG's API, object store notifications, the webhook that receives them."""
