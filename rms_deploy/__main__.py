"""`python -m rms_deploy`, the same as `rms-deploy`."""

from rms_deploy.cli.main import main

if __name__ == "__main__":
    main()
