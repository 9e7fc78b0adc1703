"""Many runs at once: ranks, seeds and settings as lanes of few programs."""
