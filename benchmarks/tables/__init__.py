"""The papers' setting: a table of users × items that is known as a whole, and students fitted to it."""
