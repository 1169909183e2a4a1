"""From images, pickles and folders to aligned sequences in a store."""
