"""From a run that passed to files that can be deployed, with the evidence beside them."""
