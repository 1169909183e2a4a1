"""Who walks there: the gallery, distances and ranks, and the recognizer over all of it."""
