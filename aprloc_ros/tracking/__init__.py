"""A moving camera's frames one after another: what is asked of the localizer, and which of its answers are believed."""
