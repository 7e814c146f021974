"""Rules over the recorder's own figures: what is wrong, since when, and that it is over."""
