"""Vetted vision-language-action control: chunks are imagined, risk-checked and gated before the arm moves."""
