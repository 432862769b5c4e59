"""What to try next: experiments, the study and its results. The only package that imports Ray."""
