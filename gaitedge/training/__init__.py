"""Training GaitPart as the paper does: recipes, batches, the loss, the loop and its checkpoints."""
