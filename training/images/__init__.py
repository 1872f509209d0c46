"""What a stage learns from: training views, varied, masked, made up."""
