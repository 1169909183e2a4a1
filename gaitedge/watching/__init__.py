"""What a camera box runs all day: from a source of video to who walks there, line by line."""
