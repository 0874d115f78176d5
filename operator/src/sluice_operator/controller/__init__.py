"""The controller: watches, reconciles, signs, publishes, and tells how it went. One is active at a time."""
