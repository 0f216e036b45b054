"""What a clinic asks: thresholds fixed elsewhere, stated shares of findings, rates of a programme, net benefit. No Prefect."""
