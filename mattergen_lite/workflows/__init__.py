"""What repeats generating, judging and training."""
