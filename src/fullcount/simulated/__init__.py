"""A simulated league whose players' true talent is known: `league.simulate`."""
