"""What each kind of fault does to a world. Each function returns when its spell is over."""
