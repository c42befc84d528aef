"""How good a trained model is, by domain, with its uncertainty."""
