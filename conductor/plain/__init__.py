"""The engine plug-in `cancelable`: jobs of stock posters and conductors that can be cancelled and undone."""
