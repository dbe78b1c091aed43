"""Makes every shipped weight from nothing."""
