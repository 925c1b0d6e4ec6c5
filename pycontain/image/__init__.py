"""
From an image, or a root file system, to a bundle.

    reference      the names of images: transport and location
    tools          skopeo copies an image, umoci unpacks its layers
    layout         the configuration of an image, by the OCI image specification
    store          the cache: each image is unpacked once, and never changed
    accounts       users and groups by name
    flags          from an image's configuration and a user's flags to `spec.default`
    overlay        the layer above the image that a container writes to
    disk           a file system of a certain size for that layer
    volumes        what an image wants outside of its root file system
    container_dir  the bundle of one container
    run            all of these, in order
"""
