"""An archive in a browser: a page to search by text, picture and place, and the JSON API under it."""
