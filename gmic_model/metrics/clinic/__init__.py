"""What a threshold is worth to a clinic: stated shares of findings, rates of a screening programme, net benefit."""
