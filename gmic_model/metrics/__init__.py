"""What scores are worth: ranking, operating points, calibration, localisation, and their intervals."""
