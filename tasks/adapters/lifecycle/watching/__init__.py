"""Whether scores go on as they began, device by device."""
