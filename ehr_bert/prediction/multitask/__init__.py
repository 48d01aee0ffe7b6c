"""Several tasks on one encoder: trained together, and then each alone from what they learned."""
