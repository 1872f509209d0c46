"""What maps are compared with: structure-based localisation on local features, and estimators on matches."""
